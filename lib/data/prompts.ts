/** Sentences for classes: templates with one `{}`. */
import { CambiumError } from '../errors.js'

/** Throws E_TEMPLATE for a template that has not exactly one `{}`. */
export function checkTemplates(templates: readonly string[]): void {
  for (const template of templates) {
    const places = template.split('{}').length - 1
    if (places !== 1)
      throw new CambiumError('E_TEMPLATE', `template ${JSON.stringify(template)}: expected one {} for the class name, got ${places}`)
  }
}

export function fillTemplate(template: string, className: string): string {
  return template.replace('{}', () => className)
}

/** Every template for every class: [classes][templates]. */
export function classPrompts(classNames: readonly string[], templates: readonly string[]): string[][] {
  return classNames.map((name) => templates.map((template) => fillTemplate(template, name)))
}
