/** The public surface of cards. */

export {
  appendBlock,
  beginToken,
  type OpenToken,
  sealToken,
  unsealedToken,
  type VerifiedToken,
  verifyToken,
} from './biscuit/container.ts'
export { inspectToken, showTokenCard, type TokenReport } from './biscuit/inspect.ts'
export { generateKeys, type KeyPair, keysOfSecret } from './biscuit/keys.ts'
export { type Algorithm, type PublicKeyBytes, TokenError } from './biscuit/wire.ts'
export { type Bound, has, leq, meet, normalise } from './bound.ts'
export type { Box, Dimension, Request } from './box.ts'
export { type Card, fillKey, type Limits, parseCard, showCard } from './card.ts'
export { type Cost, type Counters, decide, type Verdict } from './decide.ts'
export { CardError, type CardErrorCode } from './errors.ts'
export { NumberText } from './exact-json.ts'
export { type DefaultsOf, type Grant, type GrantDefaults, grantFor, parseGrant, showGrant } from './grant.ts'
export { expandGrantTexts, showGrantText } from './grant-text.ts'
export { placeOfPath, placeOfResource } from './names.ts'
export { root } from './rules/acts-of-host.ts'
export { addCard, revoke } from './rules/acts-on-cards.ts'
export { judge } from './rules/judge.ts'
export { newWorld, type World } from './rules/state.ts'
export { Sim } from './sim/sim.ts'
