/** The public surface of secrets. */

export { SecretError } from './errors.ts'
export { type Masker, MIN_MASKABLE_BYTES, maskerOf } from './mask.ts'
export { MaskStream } from './mask-stream.ts'
export {
  environmentSecrets,
  fileSecrets,
  kvSecrets,
  type SecretProvider,
  withoutLineBreak,
} from './providers.ts'
export { type OpenSecret, type Providers, SecretStore } from './secret-store.ts'
export { isSecretName, MAX_SECRET_BYTES, type SecretRow, Vault } from './vault.ts'
export { localKey, newVaultKey, readVaultKey, type VaultKey } from './vault-key.ts'
