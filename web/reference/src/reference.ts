import SwaggerUI, { type React } from 'swagger-ui-dist/swagger-ui-es-bundle.js';

const dark = matchMedia('(prefers-color-scheme: dark)');
const applyColorScheme = () => document.documentElement.classList.toggle('dark-mode', dark.matches);
dark.addEventListener('change', applyColorScheme);
applyColorScheme();

/** An event of x-sse-events: whether it has an id, and the schema of its data. */
interface SSEEvent {
  id: boolean | 'stored';
  schema: string;
}

const idText = { true: ', with an id', stored: ', with an id if it is stored', false: '' };

/** Shows each event of x-sse-events in a row of its own, instead of one long line of JSON. */
const eventRows = {
  wrapComponents: {
    OperationExtRow:
      (Row: unknown, { React }: { React: React }) =>
      ({ xKey, xVal }: { xKey: string; xVal: { toJS(): Record<string, SSEEvent> } }) => {
        const h = React.createElement;
        if (xKey !== 'x-sse-events') return h(Row, { xKey, xVal });
        const rows = Object.entries(xVal.toJS()).map(([name, { id, schema }]) =>
          h('tr', { key: name }, h('td', null, name), h('td', null, schema, idText[`${id}`])),
        );
        return h(React.Fragment, null, rows);
      },
  },
};

SwaggerUI({
  url: 'openapi.yaml',
  dom_id: '#docs',
  deepLinking: true,
  displayOperationId: true,
  defaultModelsExpandDepth: 0,
  showExtensions: true,
  validatorUrl: null, // it would load a badge from another host
  plugins: [eventRows],
});
