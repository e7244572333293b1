/** `node:path` in an agent: POSIX paths. The bundler gives the package its current directory, `/`. */
import path from 'path-browserify'

export const {
  basename,
  delimiter,
  dirname,
  extname,
  format,
  isAbsolute,
  join,
  normalize,
  parse,
  posix,
  relative,
  resolve,
  sep,
} = path
export default path
