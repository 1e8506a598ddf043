// How far the server may send ahead.

const ackWithin = 200

/**
 * Tells the server what has been dealt with: in batches of a quarter of the window, so that
 * it never waits, and of less after a while.
 */
export class Credit {
  private told = 0
  private consumedTo = 0
  private on = false
  private timer: ReturnType<typeof setTimeout> | undefined

  /** tell is called with a position while there is a connection. */
  constructor(private readonly window: number, private readonly tell: (pos: number) => void) {}

  /** There is a connection, on which what comes begins at pos. */
  begin(pos: number): void {
    this.on = true
    this.told = this.consumedTo = Math.max(this.consumedTo, pos)
  }

  /** There is none any more. */
  end(): void {
    this.on = false
    clearTimeout(this.timer)
    this.timer = undefined
  }

  consumed(pos: number): void {
    this.consumedTo = Math.max(this.consumedTo, pos)
    if (!this.on || this.consumedTo <= this.told) return
    if (this.consumedTo - this.told >= this.window / 4) this.acknowledge()
    else this.timer ??= setTimeout(() => this.acknowledge(), ackWithin)
  }

  private acknowledge(): void {
    clearTimeout(this.timer)
    this.timer = undefined
    if (this.consumedTo <= this.told) return
    this.told = this.consumedTo
    this.tell(this.told)
  }
}
