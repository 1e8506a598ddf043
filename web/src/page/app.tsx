import { effect, signal, useSignal } from '@preact/signals'
import { useEffect, useMemo, useRef } from 'preact/hooks'
import { Rest, TandemError } from '../../client/src'
import type { Role, SessionInfo } from '../../client/src'
import { Icon, IconButton } from './icons'
import { message } from './model'
import { base, isDark, place, setToken, settings, set, token } from './place'
import type { Theme } from './place'
import { SessionList } from './sessions'
import { SessionView } from './session'
import { Dialog } from './dialog'

// How often the list of sessions is asked for while somebody looks at it.
const listEvery = 2000

export interface Listing {
  sessions: SessionInfo[]
  role: Role
  error: string // why the list is not what it should be; '' if it is
  loaded: boolean
}

effect(() => {
  document.documentElement.dataset['theme'] = isDark() ? 'dark' : 'light'
})

const needsToken = signal(false)

/** Told by whoever is refused for want of a token. */
export function askForToken(): void {
  needsToken.value = true
}

export function App() {
  const rest = useMemo(() => new Rest({ base, token: token.value }), [token.value])
  const listing = useSignal<Listing>({ sessions: [], role: 'control', error: '', loaded: false })
  const drawer = useSignal(false)
  const options = useSignal(false)
  const refresh = useListing(rest, listing)
  const { session, view } = place.value
  const mayAct = listing.value.role === 'control' && !view
  const info = listing.value.sessions.find((s) => s.id === session)

  useEffect(() => {
    document.title = session ? `${info?.name || session.slice(0, 8)} · tandem` : 'tandem'
  }, [session, info?.name])
  useEffect(() => {
    drawer.value = false
  }, [session])

  if (needsToken.value) return <TokenForm wrong={token.value !== ''} />
  return (
    <div class={`app ${drawer.value ? 'drawer-open' : ''} ${session ? 'has-session' : ''}`}>
      <aside class="sidebar">
        <header class="brand">
          <span class="logo" aria-hidden="true"><Icon name="code" /></span>
          <span class="brand-name">tandem</span>
          {!mayAct && <span class="badge" data-testid="view-only"><Icon name="eye" /> view only</span>}
          <IconButton icon="settings" label="Settings" onClick={() => (options.value = true)} testid="settings" />
          <IconButton icon="close" label="Close the list" class="only-narrow" onClick={() => (drawer.value = false)} />
        </header>
        <SessionList rest={rest} listing={listing.value} mayAct={mayAct} refresh={refresh} />
      </aside>
      <button class="shade" aria-label="Close the list" tabIndex={-1} onClick={() => (drawer.value = false)} />
      <main>
        {session ? (
          <SessionView
            key={`${session} ${token.value} ${view}`} id={session} info={info} rest={rest} viewOnly={!mayAct}
            onMenu={() => (drawer.value = true)} refresh={refresh}
          />
        ) : (
          <Welcome mayAct={mayAct} onMenu={() => (drawer.value = true)} listing={listing.value} />
        )}
      </main>
      {options.value && <SettingsDialog onClose={() => (options.value = false)} />}
    </div>
  )
}

/** Keeps the list up to date; returns what asks for it at once. */
function useListing(rest: Rest, listing: { value: Listing }): () => void {
  const ask = useRef(() => {})
  useEffect(() => {
    let timer = 0
    let stopped = false
    let asking = false
    const load = async () => {
      if (asking) return
      asking = true
      clearTimeout(timer)
      try {
        const { sessions, role } = await rest.list()
        if (stopped) return
        listing.value = { sessions, role: role ?? 'control', error: '', loaded: true }
      } catch (e) {
        if (stopped) return
        if (e instanceof TandemError && e.status === 401) needsToken.value = true
        listing.value = { ...listing.value, error: message(e) }
      } finally {
        asking = false
      }
      if (!stopped && document.visibilityState === 'visible') timer = window.setTimeout(load, listEvery)
    }
    const seen = () => {
      if (document.visibilityState === 'visible') void load()
    }
    ask.current = () => void load()
    void load()
    document.addEventListener('visibilitychange', seen)
    return () => {
      stopped = true
      clearTimeout(timer)
      document.removeEventListener('visibilitychange', seen)
    }
  }, [rest])
  return () => ask.current()
}

function Welcome({ mayAct, onMenu, listing }: { mayAct: boolean; onMenu: () => void; listing: Listing }) {
  return (
    <div class="welcome">
      <IconButton icon="menu" label="Sessions" class="only-narrow corner" onClick={onMenu} />
      <span class="logo big" aria-hidden="true"><Icon name="code" /></span>
      <h1>One shell, many hands</h1>
      <p>
        {listing.loaded && listing.sessions.length === 0
          ? mayAct
            ? 'There is no session yet. Make one, and everything that agents and scripts do in it shows here.'
            : 'There is no session to look at yet.'
          : 'Choose a session to see what happens in it, live.'}
      </p>
    </div>
  )
}

function TokenForm({ wrong }: { wrong: boolean }) {
  const value = useSignal('')
  return (
    <form
      class="token-form" data-testid="token-form"
      onSubmit={(e) => {
        e.preventDefault()
        if (!value.value.trim()) return
        setToken(value.value.trim())
        needsToken.value = false
      }}
    >
      <span class="logo big" aria-hidden="true"><Icon name="code" /></span>
      <h1>This server asks for a token</h1>
      <p>{wrong ? 'The token you gave is not one of this server’s.' : 'Whoever runs the server has it. It is kept for this tab only.'}</p>
      <label>
        Token
        <input
          type="password" autocomplete="off" autofocus value={value.value} data-testid="token"
          onInput={(e) => (value.value = e.currentTarget.value)}
        />
      </label>
      <button type="submit" class="primary">Open</button>
    </form>
  )
}

function SettingsDialog({ onClose }: { onClose: () => void }) {
  const { theme, fontSize, screenReader } = settings.value
  return (
    <Dialog title="Settings" onClose={onClose} testid="settings-dialog">
      <fieldset class="choice">
        <legend>Colors</legend>
        {(['auto', 'light', 'dark'] satisfies Theme[]).map((t) => (
          <label key={t} class={theme === t ? 'chosen' : ''}>
            <input type="radio" name="theme" checked={theme === t} onChange={() => set({ theme: t })} />
            {{ auto: 'As the system', light: 'Light', dark: 'Dark' }[t]}
          </label>
        ))}
      </fieldset>
      <label class="row">
        Font size
        <span class="stepper">
          <button type="button" aria-label="Smaller" onClick={() => set({ fontSize: Math.max(8, fontSize - 1) })}>−</button>
          <output data-testid="font-size">{fontSize}</output>
          <button type="button" aria-label="Larger" onClick={() => set({ fontSize: Math.min(32, fontSize + 1) })}>+</button>
        </span>
      </label>
      <label class="row">
        <span>
          Screen reader mode
          <small>Output is also there as text for a screen reader.</small>
        </span>
        <input type="checkbox" checked={screenReader} onChange={(e) => set({ screenReader: e.currentTarget.checked })} />
      </label>
      <details class="keys">
        <summary>Keys</summary>
        <dl>
          <dt>Enter, Shift+Enter</dt><dd>run, or one more line</dd>
          <dt>Alt+Enter</dt><dd>queue as the next run</dd>
          <dt>Tab</dt><dd>complete, as bash would</dd>
          <dt>↑ ↓, Ctrl+R</dt><dd>history, search in it</dd>
          <dt>Ctrl+C</dt><dd>interrupt; again: with force</dd>
          <dt>Ctrl+D</dt><dd>end the input of what runs</dd>
          <dt>Ctrl+Shift+F</dt><dd>search in the output</dd>
          <dt>Esc, then Tab</dt><dd>leave the command line</dd>
          <dt>Shift+Page ↑ ↓</dt><dd>scroll the output</dd>
        </dl>
      </details>
      <div class="buttons"><button type="button" class="primary" onClick={onClose}>Done</button></div>
    </Dialog>
  )
}
