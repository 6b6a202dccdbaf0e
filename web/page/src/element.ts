/** Returns the element with an id. It throws if the element is missing or has another type. */
export function byID<T extends Element>(id: string, type: new () => T): T {
  const element = document.getElementById(id);
  if (!(element instanceof type)) throw new Error(`the page has no ${type.name} #${id}`);
  return element;
}

/**
 * Makes an element with a name from a user, in isolation: a name in Hebrew or Arabic, or an old one
 * with an override, does not change the order of the text beside it.
 */
export function nameElement(name: string, className = ''): HTMLElement {
  return make('bdi', className === '' ? {} : { class: className }, name);
}

/** Makes an element. Strings become text nodes, so that text from users is never parsed as HTML. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}
