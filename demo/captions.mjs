// The words of the demo: how a concept's name becomes a caption.

/** Prompts of pretraining, of fine-tuning and of the zero-shot head: the same for all methods. */
export const TEMPLATES = ['{}', 'an emoji of {}', 'a drawing of {}', 'a picture of {}']

/** The captions of a name, one per template. */
export const captionsOf = (name) => TEMPLATES.map((template) => template.replace('{}', name))
