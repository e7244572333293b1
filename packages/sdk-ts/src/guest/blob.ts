/** Blob, File and FormData over kept packages, and how a request carries them. */
import Blob from 'fetch-blob'
import File from 'fetch-blob/file.js'
import { FormData, formDataToBlob } from 'formdata-polyfill/esm.min.js'

for (const [name, value] of Object.entries({ Blob, File, FormData })) {
  Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false })
}

/** Whether a request's body is a blob or a form, and so must be encoded here. */
export function hasParts(body: unknown): body is Blob | FormData {
  return body instanceof Blob || body instanceof FormData
}

export async function encodeParts(body: Blob | FormData): Promise<{ bytes: Uint8Array; type: string }> {
  const blob = body instanceof FormData ? formDataToBlob(body, Blob) : body
  return { bytes: new Uint8Array(await blob.arrayBuffer()), type: blob.type }
}

export function toBlob(bytes: ArrayBuffer, type: string): Blob {
  return new Blob([bytes], { type })
}
