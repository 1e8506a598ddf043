import { useSignal } from '@preact/signals'
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks'
import type { Rest, SessionInfo } from '../../client/src'
import type { Listing } from './app'
import { Dialog, focusLine } from './dialog'
import { ago, firstLine, plain, shortPath } from './format'
import { Icon, IconButton } from './icons'
import { message } from './model'
import { go, link, place } from './place'

interface ListProps {
  rest: Rest
  listing: Listing
  mayAct: boolean
  refresh: () => void
}

export function SessionList({ rest, listing, mayAct, refresh }: ListProps) {
  const asking = useSignal<'' | 'new' | 'rename' | 'delete'>('')
  const about = useSignal<SessionInfo | undefined>(undefined)
  const open = (what: 'rename' | 'delete', s: SessionInfo) => {
    about.value = s
    asking.value = what
  }
  const close = () => (asking.value = '')
  const subject = about.value
  return (
    <>
      {mayAct && (
        <button type="button" class="primary new-session" onClick={() => (asking.value = 'new')} data-testid="new-session">
          <Icon name="plus" /> New session
        </button>
      )}
      {listing.error && <p class="trouble" role="status">{listing.error}</p>}
      <nav aria-label="Sessions">
        <ul class="sessions" data-testid="sessions">
          {listing.sessions.map((s) => (
            <Item key={s.id} session={s} mayAct={mayAct} onRename={() => open('rename', s)} onDelete={() => open('delete', s)} />
          ))}
        </ul>
        {listing.loaded && listing.sessions.length === 0 && <p class="empty">No sessions</p>}
      </nav>
      {asking.value === 'new' && <NewSession rest={rest} onClose={close} refresh={refresh} />}
      {asking.value === 'rename' && subject && <Rename rest={rest} session={subject} onClose={close} refresh={refresh} />}
      {asking.value === 'delete' && subject && <Delete rest={rest} session={subject} onClose={close} refresh={refresh} />}
    </>
  )
}

export function title(s: SessionInfo): string {
  return plain(s.name) || s.id.slice(0, 8)
}

interface ItemProps {
  session: SessionInfo
  mayAct: boolean
  onRename: () => void
  onDelete: () => void
}

function Item({ session: s, mayAct, onRename, onDelete }: ItemProps) {
  const here = place.value.session === s.id
  const element = useRef<HTMLLIElement>(null)
  useEffect(() => {
    if (here) element.current?.scrollIntoView({ block: 'nearest' })
  }, [here])
  useLayoutEffect(() => { // its end comes while the item is still there
    const item = element.current
    return () => {
      if (item?.contains(document.activeElement)) focusLine()
    }
  }, [])
  return (
    <li ref={element} class={here ? 'session here' : 'session'} data-testid="session" data-id={s.id}>
      <a
        href={link(s.id, place.value.view)} aria-current={here ? 'page' : undefined}
        onClick={(e) => {
          if (e.metaKey || e.ctrlKey || e.shiftKey || e.button !== 0) return
          e.preventDefault()
          go(s.id)
        }}
      >
        <span class="session-name"><i class={`state ${s.state}`} aria-label={s.state} role="img" /><bdi>{title(s)}</bdi></span>
        <span class="session-cwd" title={plain(s.cwd)}><bdi>{shortPath(s.cwd, 34)}</bdi></span>
        {s.run && <code class="session-run"><bdi>{firstLine(s.run.code).line}</bdi></code>}
        <span class="session-facts">
          {ago(Number(s.active_at), Date.now())}
          {s.clients > 0 && ` · ${s.clients} ${s.clients === 1 ? 'client' : 'clients'}`}
          {s.queued > 0 && ` · ${s.queued} waiting`}
        </span>
      </a>
      {mayAct && (
        <span class="session-actions">
          <IconButton icon="edit" label={`Rename ${title(s)}`} onClick={onRename} testid="rename" />
          <IconButton icon="trash" label={`Delete ${title(s)}`} onClick={onDelete} testid="delete" />
        </span>
      )}
    </li>
  )
}

interface AskProps {
  rest: Rest
  onClose: () => void
  refresh: () => void
}

/** Runs what a dialog is for; while that lasts nothing more can be asked. */
function useAction(onDone: () => void) {
  const busy = useSignal(false)
  const error = useSignal('')
  const act = async (what: () => Promise<unknown>) => {
    if (busy.value) return
    busy.value = true
    error.value = ''
    try {
      await what()
      onDone()
    } catch (e) {
      error.value = message(e)
    } finally {
      busy.value = false
    }
  }
  return { busy, error, act }
}

function NewSession({ rest, onClose, refresh }: AskProps) {
  const name = useRef<HTMLInputElement>(null)
  const cwd = useRef<HTMLInputElement>(null)
  const { busy, error, act } = useAction(onClose)
  useEffect(() => name.current?.focus(), [])
  return (
    <Dialog title="New session" onClose={onClose} testid="new-session-dialog">
      <form
        onSubmit={(e) => {
          e.preventDefault()
          void act(async () => {
            const wanted = { name: name.current?.value.trim() ?? '', cwd: cwd.current?.value.trim() ?? '' }
            const id = await rest.create({ ...(wanted.name && { name: wanted.name }), ...(wanted.cwd && { cwd: wanted.cwd }) })
            refresh()
            go(id)
          })
        }}
      >
        <label>Name<input ref={name} autocomplete="off" placeholder="optional" dir="auto" data-testid="session-name" /></label>
        <label>Directory<input ref={cwd} autocomplete="off" spellcheck={false} placeholder="the server’s own; made if missing" data-testid="session-cwd" /></label>
        {error.value && <p class="trouble" role="alert">{error.value}</p>}
        <div class="buttons">
          <button type="button" onClick={onClose}>Cancel</button>
          <button type="submit" class="primary" disabled={busy.value} data-testid="create">Create</button>
        </div>
      </form>
    </Dialog>
  )
}

function Rename({ rest, session, onClose, refresh }: AskProps & { session: SessionInfo }) {
  const name = useRef<HTMLInputElement>(null)
  const { busy, error, act } = useAction(onClose)
  useEffect(() => name.current?.select(), [])
  return (
    <Dialog title="Rename session" onClose={onClose}>
      <form
        onSubmit={(e) => {
          e.preventDefault()
          void act(async () => {
            await rest.rename(session.id, name.current?.value.trim() ?? '')
            refresh()
          })
        }}
      >
        <label>Name<input ref={name} defaultValue={session.name} autocomplete="off" dir="auto" data-testid="session-name" /></label>
        {error.value && <p class="trouble" role="alert">{error.value}</p>}
        <div class="buttons">
          <button type="button" onClick={onClose}>Cancel</button>
          <button type="submit" class="primary" disabled={busy.value} data-testid="save">Rename</button>
        </div>
      </form>
    </Dialog>
  )
}

function Delete({ rest, session, onClose, refresh }: AskProps & { session: SessionInfo }) {
  const { busy, error, act } = useAction(onClose)
  return (
    <Dialog title="Delete session" onClose={onClose}>
      <p>
        <strong><bdi>{title(session)}</bdi></strong> ends with every process in it{session.run ? ', also what is running now' : ''}. This cannot be undone.
      </p>
      {error.value && <p class="trouble" role="alert">{error.value}</p>}
      <div class="buttons">
        <button type="button" onClick={onClose} autofocus>Keep it</button>
        <button
          type="button" class="danger" disabled={busy.value} data-testid="confirm-delete"
          onClick={() => void act(async () => {
            await rest.delete(session.id)
            if (place.value.session === session.id) go('')
            refresh()
          })}
        >
          Delete
        </button>
      </div>
    </Dialog>
  )
}
