import { html, list, Markup, name, shorten, table } from '../../lib/report/markup.js'

test('text is escaped, markup is not, what is absent is nothing', () => {
  const hostile = `<script>alert('1')</script>&"`
  expect(html`<p title="${hostile}">${hostile}${html`<b>${1}</b>`}${undefined}${false}${['a', html`<i>`]}</p>`.text).toBe(
    '<p title="&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;">&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;<b>1</b>a<i></p>',
  )
})

test('control characters and lone surrogates become visible', () => {
  expect(html`${'a\u0000b\u001bc\u009fd\ud800e\nf😀'}`.text).toBe('a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}e\nf😀')
})

test('a name does not turn the text around it', () => {
  expect(name('\u202eevil').text).toBe('<bdi>\u202eevil</bdi>')
})

test.each([
  [[], ''],
  [['a'], 'a'],
  [['a', 'b'], 'a and b'],
  [['a', '<', 'c'], 'a, &lt; and c'],
])('list of %j', (items, text) => {
  expect(list(items)).toEqual(new Markup(text))
})

test('shortened by characters, not by halves of them', () => {
  expect([shorten('😀😀😀', 3), shorten('😀😀😀😀', 3)]).toEqual(['😀😀😀', '😀😀…'])
})

test('a table names its columns and rows', () => {
  const { text } = table(['set', 'top-1'], [['<a>', 1]], { strong: [0] })
  expect(text).toContain('<tr class="strong"><th scope="row">&lt;a&gt;</th><td>1</td></tr>')
  expect(text).toContain('<th scope="col">top-1</th>')
})
