export interface UploadOptions {
  /** The name of the file. The default is the name of the `File`. */
  fileName?: string;
  /** Called repeatedly with the number of bytes that were sent. */
  onProgress?: (sent: number, total: number) => void;
  /** Called when the upload waits for the connection. It then continues by itself. */
  onInterrupted?: () => void;
  /** Called when the upload has its ID, which is the file's mediaID. */
  onBegun?: (uploadID: string) => void;
  /** The ID of an interrupted upload of the same file, to continue it. */
  uploadID?: string;
  /** Cancels the upload and deletes the uploaded bytes on the server. */
  signal?: AbortSignal;
}
