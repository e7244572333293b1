/** The package is what Node calls `stream`, and brings no types of its own. */
declare module 'readable-stream/lib/ours/browser.js' {
  const streams: typeof import('node:stream')
  export default streams
}
