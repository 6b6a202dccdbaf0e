/** Where the server is that this page came from: in the page's folder, which a proxy may have below a path. */
export const serverURL = new URL('.', location.href).href;
