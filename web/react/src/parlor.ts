import type { ConnectionEvent, ConnectionState, Parlor } from 'parlor-sdk';
import { createContext, createElement, type FunctionComponentElement, type ProviderProps, type ReactNode, useContext } from 'react';
import { Store, useStore } from './store.ts';

const Context = createContext<Parlor | undefined>(undefined);

/** Makes a session available to the components in it. */
export function ParlorProvider({ parlor, children }: {
  parlor: Parlor;
  children?: ReactNode;
}): FunctionComponentElement<ProviderProps<Parlor | undefined>> {
  return createElement(Context.Provider, { value: parlor }, children);
}

/** Returns the session of the ParlorProvider around the component. */
export function useParlor(): Parlor {
  const parlor = useContext(Context);
  if (parlor === undefined) throw new Error('useParlor is called outside of a ParlorProvider');
  return parlor;
}

export interface Connection {
  state: ConnectionState;
  /** The reason of the last change; undefined before the first. */
  event?: ConnectionEvent;
  /** The text that an admin gave when ending the session. */
  reason?: string | undefined;
}

const CONNECTING: Connection = { state: 'connecting' };

class ConnectionStore extends Store<Connection> {
  readonly #parlor: Parlor;
  #stop = () => {};

  constructor(parlor: Parlor) {
    super(parlor.lastChange ?? CONNECTING);
    this.#parlor = parlor;
  }

  protected override begin(): void {
    this.#stop = this.#parlor.on('connectionStateChanged', (change) => this.set(change));
    // It may have changed while no component showed it.
    const now = this.#parlor.lastChange ?? CONNECTING;
    if (now !== this.get()) this.set(now);
  }

  protected override end(): void {
    this.#stop();
  }
}

const connections = new WeakMap<Parlor, ConnectionStore>();

/** Returns the state of the session's connection, and why it changed last. */
export function useConnection(): Connection {
  const parlor = useParlor();
  const store = connections.get(parlor) ?? new ConnectionStore(parlor);
  connections.set(parlor, store);
  return useStore(store);
}
