/** The public surface of the engine. */
export {
  type Built,
  ENGINE_VERSION,
  Engine,
  EngineFailure,
  type EngineOptions,
  type GuestFailure,
  type Image,
  type Instance,
  type Turn,
  type TurnOutcome,
} from './engine.ts'
