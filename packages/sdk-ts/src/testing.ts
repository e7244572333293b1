/** What tests of agent programs import from `@cardinal/sdk/testing`. Runs outside the sandbox. */
export { openTest, type Test, type TestOptions } from '@cardinal/kernel/testing'
