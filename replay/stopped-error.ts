// The gateway stops: what was under way is left as it is, and is found out at the next start.

export class StoppedError extends Error {}
