/** The public surface of cards. */

export { chainBound, readCards, signCards, type TokenCard } from './biscuit/card-token.ts'
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
export { type RevocationList, readRevocations, signRevocations } from './biscuit/revocations.ts'
export { type Algorithm, type PublicKeyBytes, TokenError } from './biscuit/wire.ts'
export { type Bound, has, leq, meet, normalise } from './bound.ts'
export type { Box, Dimension, Request } from './box.ts'
export { fillCard, parseCard, type RootCard } from './card.ts'
export { cellHas } from './cell.ts'
export { limitToHosts } from './egress.ts'
export { CardError, type CardErrorCode } from './errors.ts'
export { exactNumber, NumberText, parsePlainJson, parseRecordJson } from './exact-json.ts'
export {
  type DefaultsOf,
  type Grant,
  type GrantDefaults,
  grantFor,
  parseGrant,
  parseGrants,
  showGrant,
} from './grant.ts'
export { expandGrantTexts, parseGrantText, showGrantText } from './grant-text.ts'
export {
  decodeBudgets,
  encodeBudgets,
  type LimitNames,
  NODE_NAMES,
  parseAmounts,
  parseCardLimits,
  showLimits,
} from './limits.ts'
export { placeOfPlainPath, placeOfResource } from './names.ts'
export { endOfPeriod, plainName } from './period.ts'
export { type ActOn, actRequest, isRefusal, permit } from './rules/act.ts'
export { answer, input, send, stopShown } from './rules/acts-between.ts'
export { confine, root } from './rules/acts-of-host.ts'
export {
  accept,
  addCard,
  derive,
  drop,
  give,
  joinRevocations,
  offer,
  preview,
  revoke,
  revokeAll,
  spawn,
} from './rules/acts-on-cards.ts'
export { budgetShort, counted, debit } from './rules/budget.ts'
export { birthTerm, ceilingTerms, flowSinksOf, influenceOf, nowTerms, sinksOfAll } from './rules/ceiling.ts'
export * as codec from './rules/codec.ts'
export { DECLASSIFY, type Declassified, declassify } from './rules/declassify.ts'
export { approve, begin, costOfEffect, cut, decide, type EffectOf, receipt } from './rules/effects.ts'
export { type Explained, explain } from './rules/explain.ts'
export { grantOf, isWithinCard, judge, type Verdict } from './rules/judge.ts'
export { isLive, isStopped } from './rules/live.ts'
export { type Minted, mintChild, type Narrow } from './rules/mint.ts'
export type { Outcome, Refusal } from './rules/outcome.ts'
export {
  type Agent as AgentRow,
  type Card as CardRow,
  type EffectRequest,
  type Influence,
  type Language,
  type Method,
  newAgent,
  newDerived,
  newWorld,
  type ScopePart,
  type Turn as TurnRow,
  UNTOUCHED,
  type World,
} from './rules/state.ts'
export { costOf, floorOf, join, meets } from './rules/taint.ts'
export { wipe } from './rules/wipe.ts'
export { showFullBound } from './sim/full-form.ts'
export { Sim } from './sim/sim.ts'
export { showSinks, sinksLeq } from './sink.ts'
