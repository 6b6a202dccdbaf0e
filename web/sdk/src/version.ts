/** The condition of a change: the version that the caller has read. */
export interface IfVersion {
  ifVersion?: number;
}

export function ifMatch(version: number | undefined): { 'If-Match'?: string } {
  return version === undefined ? {} : { 'If-Match': `"${version}"` };
}
