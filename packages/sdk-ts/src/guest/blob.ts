/** Blob, File and FormData over kept packages. A form becomes a blob, with its boundary, as soon as it is a body. */
import Blob from 'fetch-blob'
import File from 'fetch-blob/file.js'
import { FormData, formDataToBlob } from 'formdata-polyfill/esm.min.js'

for (const [name, value] of Object.entries({ Blob, File, FormData })) {
  Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false })
}

export { Blob }

/** A form as the blob that is sent for it; every other body as it is. */
export function formAsBlob(body: unknown): unknown {
  return body instanceof FormData ? formDataToBlob(body, Blob) : body
}
