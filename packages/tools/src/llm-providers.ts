/** The wire formats of model providers: kept packages speak them, through the one door. Loaded when first used. */
import type { LanguageModelV4 } from '@ai-sdk/provider'
import type { ModelDeclaration } from './model-declaration.ts'

const PLACES: Partial<Record<ModelDeclaration['provider'], string>> = {
  openai: 'https://api.openai.com/v1',
  anthropic: 'https://api.anthropic.com/v1',
  google: 'https://generativelanguage.googleapis.com/v1beta',
  vertex: 'https://aiplatform.googleapis.com/v1/publishers/google',
  openrouter: 'https://openrouter.ai/api/v1',
  ollama: 'http://127.0.0.1:11434/api',
}

/** Where a model is reached; undefined: nobody has said. */
export function placeOfModel({ provider, url, region = 'us-east-1' }: ModelDeclaration): string | undefined {
  return (
    url ?? (provider === 'bedrock' ? `https://bedrock-runtime.${region}.amazonaws.com` : PLACES[provider])
  )
}

/** A model with its key in it, for one call. */
export async function openModel(
  declaration: ModelDeclaration,
  apiKey: string,
  fetch: typeof globalThis.fetch,
): Promise<LanguageModelV4> {
  const { provider, model, region = 'us-east-1' } = declaration
  const baseURL = placeOfModel(declaration) as string
  const given = { apiKey, baseURL, fetch }
  switch (provider) {
    case 'openai':
      return (await import('@ai-sdk/openai')).createOpenAI(given).chat(model)
    case 'anthropic':
      return (await import('@ai-sdk/anthropic')).createAnthropic(given)(model)
    case 'google':
      return (await import('@ai-sdk/google')).createGoogleGenerativeAI(given)(model)
    case 'vertex':
      return (await import('@ai-sdk/google-vertex')).createVertex(given)(model)
    case 'bedrock':
      return (await import('@ai-sdk/amazon-bedrock')).createAmazonBedrock({ ...given, region })(model)
    case 'openrouter':
      return (await import('@openrouter/ai-sdk-provider')).createOpenRouter(given)(model) as LanguageModelV4
    case 'ollama':
      return (await import('ollama-ai-provider-v2')).createOllama({ baseURL, fetch })(
        model,
      ) as LanguageModelV4
    case 'compatible':
      return (await import('@ai-sdk/openai-compatible')).createOpenAICompatible({
        name: 'compatible',
        ...given,
      })(model)
    case 'scripted':
      throw new Error('a scripted model has no provider')
  }
}
