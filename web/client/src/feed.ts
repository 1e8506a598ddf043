// What is read one by one, as it comes.

interface Reader<T> {
  resolve: (r: IteratorResult<T>) => void
  reject: (reason: unknown) => void
}

/**
 * A queue between who tells and one who reads. It has no limit of its own: {@link unread} says
 * how far the reader is, for whoever can make the others wait.
 */
export class Feed<T> implements AsyncIterableIterator<T> {
  private items: { value: T; pos: number }[] = []
  private first = 0 // index of the first that is not read
  private readonly waiting: Reader<T>[] = []
  private over: { reason?: unknown } | undefined

  /** onRead is called when something was read, and when the reader wants no more. */
  constructor(private readonly onRead: () => void) {}

  /** Nothing will be read any more. */
  get done(): boolean {
    return this.over !== undefined && this.first >= this.items.length
  }

  /** Where what waits to be read begins; Infinity: nothing does. */
  get unread(): number {
    return this.items[this.first]?.pos ?? Infinity
  }

  push(value: T, pos: number): void {
    if (this.over) return
    const reader = this.waiting.shift()
    if (reader) reader.resolve({ value, done: false })
    else this.items.push({ value, pos })
  }

  /** Nothing comes after what is there; where there is a reason, reading on rejects with it. */
  end(over: { reason?: unknown }): void {
    if (this.over) return
    this.over = over
    for (const reader of this.waiting.splice(0)) this.finish(reader)
  }

  next(): Promise<IteratorResult<T>> {
    const item = this.items[this.first]
    if (!item) return new Promise((resolve, reject) => (this.over ? this.finish({ resolve, reject }) : this.waiting.push({ resolve, reject })))
    this.first++
    // From time to time only: to take the first of many away is to move all the others.
    if (this.first * 2 > this.items.length) {
      this.items = this.items.slice(this.first)
      this.first = 0
    }
    this.onRead()
    return Promise.resolve({ value: item.value, done: false })
  }

  /** The reader wants no more: what a loop calls that is left. */
  return(): Promise<IteratorResult<T>> {
    this.items = []
    this.first = 0
    this.over = {}
    for (const reader of this.waiting.splice(0)) this.finish(reader)
    this.onRead()
    return Promise.resolve({ value: undefined, done: true })
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  private finish(reader: Reader<T>): void {
    if (this.over && 'reason' in this.over) reader.reject(this.over.reason)
    else reader.resolve({ value: undefined, done: true })
  }
}
