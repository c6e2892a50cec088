/**
 * HTML that is safe by construction: `html` escapes everything put into it but other markup, so names of files and classes
 * cannot become elements or attributes.
 */
export class Markup {
  constructor(readonly text: string) {}
}

export type Content = Markup | string | number | readonly Content[] | undefined | false

/** Values go into text or into quoted attributes. */
export function html(parts: TemplateStringsArray, ...values: readonly Content[]): Markup {
  return new Markup(parts.map((part, i) => (i === 0 ? part : textOf(values[i - 1]) + part)).join(''))
}

function textOf(value: Content): string {
  if (value === undefined || value === false) return ''
  if (value instanceof Markup) return value.text
  if (Array.isArray(value)) return value.map(textOf).join('')
  return escaped(String(value))
}

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }

/** Characters that HTML gives a meaning; and control characters and halves of surrogate pairs, which no page may hold. */
function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character]).replace(UNPRINTABLE, '\u{fffd}')
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const UNPRINTABLE = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\p{Surrogate}]/gu

/** A name from outside, kept from turning the text around it (right-to-left names, overrides). */
export const name = (text: string): Markup => html`<bdi>${text}</bdi>`

/** `a, b and c`. */
export function list(items: readonly Content[]): Markup {
  return new Markup(items.map((item, i) => (i === 0 ? '' : i === items.length - 1 ? ' and ' : ', ') + textOf(item)).join(''))
}

/** At most `length` characters, the end cut. */
export function shorten(text: string, length: number): string {
  const characters = [...text]
  return characters.length <= length ? text : `${characters.slice(0, length - 1).join('')}…`
}

export interface TableOptions {
  caption?: string
  /** Index of rows to bring forward. */
  strong?: readonly number[]
}

/** A table whose first column names the rows; it scrolls by itself where it is too wide. */
export function table(head: readonly Content[], rows: readonly (readonly Content[])[], options: TableOptions = {}): Markup {
  const strong = new Set(options.strong)
  const body = rows.map(
    ([first, ...rest], i) =>
      html`<tr${strong.has(i) && new Markup(' class="strong"')}><th scope="row">${first}</th>${rest.map((cell) => html`<td>${cell}</td>`)}</tr>\n`,
  )
  return html`<div class="scroll" tabindex="0"><table>${options.caption !== undefined && html`<caption>${options.caption}</caption>`}
<thead><tr>${head.map((cell) => html`<th scope="col">${cell}</th>`)}</tr></thead>
<tbody>${body}</tbody></table></div>`
}
