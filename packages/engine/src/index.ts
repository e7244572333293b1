/** The public surface of the engine. */
export {
  type Built,
  type Called,
  type Compiler,
  type Component,
  ENGINE_VERSION,
  Engine,
  EngineFailure,
  type EngineOptions,
  type FoundHome,
  type GuestFailure,
  type HomeProblem,
  type HomeRows,
  type HomeUse,
  type Image,
  type Instance,
  SQLITE_VERSION,
  type Stop,
  TURNS_VERSION,
  type Turn,
  type TurnOutcome,
} from './engine.ts'
export { readImage } from './image-file.ts'
