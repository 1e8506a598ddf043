// The code that was typed here.

// Characters that are kept in all: as many as the longest code that a server takes.
const mostTyped = 16 << 20

/** Keeps the code of runs whole, by their ids: the newest, and those before it as far as there is room. */
export class Typed {
  private readonly codes = new Map<string, string>()
  private size = 0

  constructor(private readonly most = mostTyped) {}

  add(run_id: string, code: string): void {
    this.codes.set(run_id, code)
    this.size += code.length
    for (const [id, old] of this.codes) {
      if (this.size <= this.most || id === run_id) return
      this.codes.delete(id)
      this.size -= old.length
    }
  }

  get(run_id: string): string | undefined {
    return this.codes.get(run_id)
  }
}
