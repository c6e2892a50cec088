/** The shell of a page: one file, no script, no address outside; a policy in it forbids both. */
import { type Content, html, Markup } from './markup.js'
import { STYLE } from './style.js'

export interface DocumentOptions {
  readonly title: string
  readonly body: Content
  /** What this page needs beside the common style. */
  readonly style?: string
}

export function documentOf({ title, body, style = '' }: DocumentOptions): string {
  const { text } = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<meta name="generator" content="cambium">
<title>${title}</title>
<style>${new Markup(STYLE + style)}</style>
</head>
<body>
<main>
${body}
</main>
</body>
</html>
`
  return text
}
