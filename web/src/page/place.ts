// Where the page is, what it shows, and what it remembers.

import { signal } from '@preact/signals'

/** The directory this page was loaded from: every address is relative to it. */
export const base = new URL('./', location.origin + location.pathname)

export interface Place {
  /** Id of the session shown, or '' for none. */
  session: string
  /** Whether to look only, whatever else would be allowed. */
  view: boolean
}

function read(): Place {
  const query = new URLSearchParams(location.search)
  return { session: query.get('session') ?? '', view: query.has('view') && query.get('view') !== '0' }
}

/** What the address says. Change it with {@link go}. */
export const place = signal(read())
addEventListener('popstate', () => (place.value = read()))

/** The address that shows a session. */
export function link(session: string, view: boolean): string {
  const query = new URLSearchParams()
  if (session) query.set('session', session)
  const rest = query.toString() + (view ? (session ? '&view' : 'view') : '')
  return base.pathname + (rest ? '?' + rest : '')
}

/** Shows a session, or none, and keeps looking only if that is asked for already. */
export function go(session: string): void {
  if (session === place.value.session) return
  history.pushState(null, '', link(session, place.value.view))
  place.value = read()
}

const tokenKey = 'tandem.token:' + base.pathname

/** The token, from the fragment of the link that was opened or from earlier in this tab. */
export const token = signal(takeToken())

function takeToken(): string {
  const given = new URLSearchParams(location.hash.slice(1)).get('token')
  if (given) {
    // Out of the address bar and the history before anything else can see it.
    history.replaceState(null, '', location.pathname + location.search)
    remember(sessionStorage, tokenKey, given)
    return given
  }
  return recall(sessionStorage, tokenKey)
}

export function setToken(value: string): void {
  remember(sessionStorage, tokenKey, value)
  token.value = value
}

// Storage can be switched off or full: the page works without.
function remember(store: Storage, key: string, value: string): void {
  try {
    store.setItem(key, value)
  } catch {}
}

function recall(store: Storage, key: string): string {
  try {
    return store.getItem(key) ?? ''
  } catch {
    return ''
  }
}

export type Theme = 'auto' | 'light' | 'dark'

export interface Settings {
  theme: Theme
  fontSize: number
  screenReader: boolean
}

const settingsKey = 'tandem.settings'

function readSettings(): Settings {
  const defaults: Settings = { theme: 'auto', fontSize: 14, screenReader: false }
  try {
    const kept = JSON.parse(recall(localStorage, settingsKey) || '{}') as Partial<Settings>
    const theme = kept.theme === 'light' || kept.theme === 'dark' ? kept.theme : 'auto'
    const fontSize = Math.min(32, Math.max(8, Number(kept.fontSize) || defaults.fontSize))
    return { theme, fontSize, screenReader: kept.screenReader === true }
  } catch {
    return defaults
  }
}

/** How the page looks, kept in this browser. Change it with {@link set}. */
export const settings = signal(readSettings())

export function set(change: Partial<Settings>): void {
  settings.value = { ...settings.value, ...change }
  remember(localStorage, settingsKey, JSON.stringify(settings.value))
}

const prefersDark = matchMedia('(prefers-color-scheme: dark)')
const systemDark = signal(prefersDark.matches)
prefersDark.addEventListener('change', (e) => (systemDark.value = e.matches))

/** Whether the page is dark now. */
export function isDark(): boolean {
  const { theme } = settings.value
  return theme === 'dark' || (theme === 'auto' && systemDark.value)
}
