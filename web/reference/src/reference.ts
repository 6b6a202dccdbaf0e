import SwaggerUI, { type React } from 'swagger-ui-dist/swagger-ui-es-bundle.js';

const dark = matchMedia('(prefers-color-scheme: dark)');
const follow = () => document.documentElement.classList.toggle('dark-mode', dark.matches);
dark.addEventListener('change', follow);
follow();

/** Gives each event of the stream a row; the extension would be one long line of JSON. */
const eventRows = {
  wrapComponents: {
    OperationExtRow:
      (Row: unknown, { React }: { React: React }) =>
      ({ xKey, xVal }: { xKey: string; xVal: { toJS(): Record<string, { id: boolean; schema: string }> } }) => {
        const h = React.createElement;
        if (xKey !== 'x-sse-events') return h(Row, { xKey, xVal });
        const rows = Object.entries(xVal.toJS()).map(([name, { id, schema }]) =>
          h('tr', { key: name }, h('td', null, name), h('td', null, schema, id ? ', with an id' : '')),
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
  validatorUrl: null, // its badge would come from another host
  plugins: [eventRows],
});
