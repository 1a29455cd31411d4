/**
 * How what is drawn follows the store.
 *
 * @module
 */

import { createContext } from "preact";
import { useContext, useEffect, useState } from "preact/hooks";
import type { PageState, Store } from "./store.ts";

/** The page's store. */
export const StoreContext = createContext<Store | null>(null);

/** The store, and what there is in it now: whoever uses it is drawn again after each change. */
export function useStore(): [Store, PageState] {
  const store = useContext(StoreContext)!;
  const [state, setState] = useState(store.state);
  useEffect(() => {
    setState(store.state);
    return store.subscribe(() => setState(store.state));
  }, [store]);
  return [store, state];
}
