import type { Operations, Paths } from './operations.gen.ts';

// These types take the parts of an operation from the generated ones, so that a call with a wrong
// path, field or reply does not compile.

export type Path = keyof Paths;
export type Method<P extends Path> = keyof Paths[P] & string;

type Operation<P extends Path, M extends Method<P>> = Operations[Paths[P][M] & keyof Operations];

/** A part that every call has, unless there is none of the kind or all of it is optional. */
type Part<Name extends string, Value> = [Value] extends [never]
  ? { [N in Name]?: never }
  : undefined extends Value
    ? { [N in Name]?: Value }
    : object extends Value
      ? { [N in Name]?: Value }
      : { [N in Name]: Value };

/** The arguments of an operation: its path, query, header and body. */
export type Arguments<P extends Path, M extends Method<P>> = Part<'path', Operation<P, M>['path']> &
  Part<'query', Operation<P, M>['query']> &
  Part<'header', Operation<P, M>['header']> &
  Part<'body', Operation<P, M>['body']>;

/** The reply of an operation that succeeds; undefined if it has no body. */
export type Reply<P extends Path, M extends Method<P>> = Operation<P, M>['reply'];
