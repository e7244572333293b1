import { Agent } from '@cardinal/sdk'

/** Black, one pixel. */
const PNG = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='
const WAV = 'UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA='
const text = (said: string) => ({ type: 'text', text: said })
const resource = {
  type: 'resource',
  resource: {
    uri: 'test://embedded-resource',
    mimeType: 'text/plain',
    text: 'This is an embedded resource content.',
  },
}

const SCHEMA = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  type: 'object',
  $defs: {
    address: {
      $anchor: 'addressDef',
      type: 'object',
      properties: { street: { type: 'string' }, city: { type: 'string' } },
    },
  },
  properties: {
    name: { type: 'string' },
    address: { $ref: '#/$defs/address' },
    contactMethod: { type: 'string', enum: ['phone', 'email'] },
    phone: { type: 'string' },
    email: { type: 'string' },
  },
  allOf: [{ anyOf: [{ required: ['phone'] }, { required: ['email'] }] }],
  if: { properties: { contactMethod: { const: 'phone' } }, required: ['contactMethod'] },
  // biome-ignore lint/suspicious/noThenProperty: a word of JSON Schema
  then: { required: ['phone'] },
  else: { required: ['email'] },
  additionalProperties: false,
}

/** The tools that the conformance suite of the Model Context Protocol expects of a server. */
export default class Conformance extends Agent {
  static methods = {
    simpleText: { about: 'answers with text', shared: true },
    image: { shared: true },
    audio: { shared: true },
    embedded: { shared: true },
    mixed: { shared: true },
    failing: { shared: true },
    schema: { in: SCHEMA, shared: true },
  }

  simpleText() {
    return 'This is a simple text response for testing.'
  }

  image() {
    return { content: [{ type: 'image', data: PNG, mimeType: 'image/png' }] }
  }

  audio() {
    return { content: [{ type: 'audio', data: WAV, mimeType: 'audio/wav' }] }
  }

  embedded() {
    return { content: [resource] }
  }

  mixed() {
    return {
      content: [
        text('Multiple content types test:'),
        { type: 'image', data: PNG, mimeType: 'image/png' },
        {
          type: 'resource',
          resource: {
            uri: 'test://mixed',
            mimeType: 'application/json',
            text: '{"test":"data","value":123}',
          },
        },
      ],
    }
  }

  failing() {
    throw new Error('This tool intentionally returns an error for testing')
  }

  schema() {
    return 'taken'
  }
}
