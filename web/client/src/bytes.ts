// Bytes and text.

/** Text as a header can carry it: each byte of its UTF-8 as a character. */
export function byteString(text: string): string {
  return binaryString(new TextEncoder().encode(text))
}

/** A character for each byte. */
function binaryString(bytes: Uint8Array): string {
  let s = ''
  // Not all at once: the number of arguments of a call is bounded.
  for (let i = 0; i < bytes.length; i += 1 << 12) s += String.fromCharCode(...bytes.subarray(i, i + (1 << 12)))
  return s
}

export function base64(bytes: Uint8Array): string {
  return btoa(binaryString(bytes))
}

export function fromBase64(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0))
}

export function toBytes(data: string | Uint8Array): Uint8Array {
  return typeof data === 'string' ? new TextEncoder().encode(data) : data
}

export function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((n, p) => n + p.length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}

/**
 * The largest length up to most at which no character of UTF-8 is cut, which is 0 where not
 * even one fits; most where this is no text.
 */
export function wholeCharacters(bytes: Uint8Array, most: number): number {
  if (bytes.length <= most) return bytes.length
  const within = (at: number) => ((bytes[at] ?? 0) & 0xc0) === 0x80
  let cut = most
  while (cut > 0 && most - cut < 3 && within(cut)) cut--
  return within(cut) ? most : cut
}
