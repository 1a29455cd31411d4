/**
 * The page's script: what the bundle begins with.
 *
 * @module
 */

import { render } from "preact";
import plotStyle from "uplot/dist/uPlot.min.css" with { type: "text" };
import { App } from "./app.tsx";
import { Store } from "./store.ts";
import { StoreContext } from "./use_store.ts";

const sheet = new CSSStyleSheet();
sheet.replaceSync(plotStyle);
document.adoptedStyleSheets.push(sheet);

render(
  <StoreContext.Provider value={new Store()}>
    <App />
  </StoreContext.Provider>,
  document.getElementById("page")!,
);
