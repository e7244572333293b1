/** Why a secret, or the vault, cannot be used. Never names a byte of one. */
export type SecretCode =
  | 'NoVault'
  | 'VaultKey'
  | 'WeakVaultKey'
  | 'OtherVaultKey'
  | 'NoSuchSecret'
  | 'SecretExists'
  | 'BadSecret'
  | 'SecretSource'
  | 'SecretDamaged'

export class SecretError extends Error {
  readonly code: SecretCode
  constructor(code: SecretCode, message: string) {
    super(message)
    this.code = code
  }
}
