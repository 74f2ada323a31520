/** A problem that the person can fix; its message names the cause and the remedy. */
export class MienError extends Error {
  constructor(message) {
    super(message);
    this.name = "MienError";
  }
}
