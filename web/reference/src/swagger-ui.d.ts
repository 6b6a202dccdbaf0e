declare module 'swagger-ui-dist/swagger-ui-es-bundle.js' {
  /** The part of React that Swagger UI passes to its plugins. */
  export interface React {
    createElement(type: unknown, properties: object | null, ...children: unknown[]): unknown;
    Fragment: unknown;
  }
  const SwaggerUI: (options: Record<string, unknown>) => unknown;
  export default SwaggerUI;
}
