/** The public surface of the kernel. */
import './check-node.ts'

export { type Api, readToken, serveApi } from './api.ts'
export { type Clock, systemClock, VirtualClock } from './clock.ts'
export type { TurnEvent, TurnLimits } from './context.ts'
export { KernelError, type KernelErrorClass } from './errors.ts'
export { anchorFile, layout } from './folder.ts'
export { type CheckedHome, checkHomeFile, type HomeHeader } from './home-file.ts'
export type { Invoke } from './intake.ts'
export { type Kernel, type KernelOptions, openKernel } from './kernel.ts'
export type { Reply, ReplyError } from './reply.ts'
export type { HistoryLine, LogLine } from './view.ts'
export type { Why } from './why.ts'
