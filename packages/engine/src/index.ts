/** The public surface of the engine. */
export {
  type Built,
  Engine,
  ENGINE_VERSION,
  EngineFailure,
  type EngineOptions,
  type GuestFailure,
  type Image,
  type Instance,
  type Turn,
  type TurnOutcome,
} from './engine.ts'
