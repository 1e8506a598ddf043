import { batch, signal, useSignal, useSignalEffect } from '@preact/signals'
import type { Signal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import type { Rest, SessionInfo } from '../../client/src'
import { askForToken } from './app'
import { CompletionList, completionState, fromPoint, offer, toPoint } from './completion'
import type { CompletionState } from './completion'
import { duration, firstLine, plain, shortPath } from './format'
import { HistorySearch } from './history'
import { IconButton } from './icons'
import { KeyRow } from './keyrow'
import { Model, message } from './model'
import type { Connection, Run } from './model'
import { isDark, settings } from './place'
import { Prompt } from './prompt'
import { RunPanel } from './runs'
import { SearchBar } from './search'
import { title } from './sessions'
import { View, scrollback } from './terminal'
import type { Found } from './terminal'

interface SessionProps {
  id: string
  info: SessionInfo | undefined
  rest: Rest
  viewOnly: boolean
  onMenu: () => void
  refresh: () => void
}

const wide = matchMedia('(min-width: 1000px)')

/** What a session's parts share while it is shown. */
export interface Parts {
  model: Model
  view: View
  prompt: Prompt | undefined
}

export function SessionView({ id, info, rest, viewOnly, onMenu, refresh }: SessionProps) {
  const screen = useRef<HTMLDivElement>(null)
  const line = useRef<HTMLDivElement>(null)
  const parts = useSignal<Parts | undefined>(undefined)
  const found = useSignal<Found | undefined>(undefined)
  const searching = useSignal(false)
  const panel = useSignal(wide.matches)
  const browsing = useSignal(false)
  const list = useSignal<CompletionState>(completionState)
  const copied = useSignal(0)

  useEffect(() => {
    if (!screen.current) return
    const look = { ...settings.peek(), dark: isDark() }
    const view = new View(screen.current, look, (n) => (copied.value = n), (f) => (found.value = f))
    const model = new Model(id, rest, rest.base, rest.token, viewOnly, view)
    const prompt = line.current ? makePrompt(line.current, model, view, list, browsing) : undefined
    wireKeys(view, model, prompt, searching)
    parts.value = { model, view, prompt }
    prompt?.focus()
    Object.assign(window, { tandem: { terminal: view.term, model } }) // for whoever looks into the page with its console
    return () => {
      parts.value = undefined
      prompt?.dispose()
      model.dispose()
      view.dispose()
    }
  }, [])

  useSignalEffect(() => {
    const look = { ...settings.value, dark: isDark() }
    parts.value?.view.look(look)
  })
  useSignalEffect(() => {
    const p = parts.value
    if (!p) return
    if (p.model.connection.value.denied) askForToken()
    const { ended } = p.model.connection.value
    p.prompt?.enable(!ended)
    const run = p.model.current.value
    p.prompt?.mode(ended ? '' : run ? 'Input for what is running' : '', !run)
  })
  useEffect(() => {
    const onKey = (e: KeyboardEvent) => {
      if ((e.ctrlKey || e.metaKey) && e.shiftKey && e.key.toLowerCase() === 'f') {
        e.preventDefault()
        searching.value = true
      }
    }
    addEventListener('keydown', onKey)
    return () => removeEventListener('keydown', onKey)
  }, [])

  const p = parts.value
  const connection = p?.model.connection.value
  const current = p?.model.current.value
  const acts = !viewOnly && p?.model.role.value !== 'view'
  const closeSearch = () => {
    searching.value = false
    found.value = undefined
    p?.view.stopFinding()
    p?.prompt?.focus()
  }
  return (
    <div class={`session-view ${panel.value ? 'with-panel' : ''}`}>
      <header class="bar">
        <IconButton icon="menu" label="Sessions" class="only-narrow" onClick={onMenu} testid="menu" />
        <h1><bdi data-testid="title">{info ? title(info) : id.slice(0, 8)}</bdi></h1>
        <span class="cwd" data-testid="cwd" title={plain(p?.model.cwd.value ?? '')}><bdi>{shortPath(p?.model.cwd.value ?? '')}</bdi></span>
        <span class="spring" />
        {connection && <ConnectionPill connection={connection} retry={() => p?.model.wake()} />}
        <IconButton icon="search" label="Search in the output (Ctrl+Shift+F)" onClick={() => (searching.value = true)} testid="search" />
        <IconButton icon="runs" label="Runs" pressed={panel.value} onClick={() => (panel.value = !panel.value)} testid="runs-toggle" />
      </header>
      {searching.value && p && <SearchBar view={p.view} found={found.value} onClose={closeSearch} />}
      {p?.model.full.value && (
        <p class="earlier" data-testid="full">
          This page holds the last {scrollback.toLocaleString('en')} lines. All that the server keeps: <code>tandem logs {id.slice(0, 8)}</code>
        </p>
      )}
      {p && !p.model.full.value && p.model.earlier.value > 0 && (
        <button
          type="button" class="earlier" disabled={connection?.state !== 'open'} data-testid="earlier"
          onClick={() => {
            p.model.loadEarlier()
            p.prompt?.focus() // the button goes
          }}
        >
          Show what came before
        </button>
      )}
      <div class="stage">
        <div class="terminal" ref={screen} data-testid="terminal" />
        {copied.value > 0 && (
          <p class="toast" role="status">
            The output put {copied.value} characters on the clipboard.
            <IconButton icon="close" label="Dismiss" onClick={() => (copied.value = 0)} />
          </p>
        )}
      </div>
      {connection?.ended ? (
        <p class="ended" role="alert" data-testid="ended">This session can no longer be followed: {plain(connection.ended)}.</p>
      ) : (
        p && <Status model={p.model} run={current} acts={acts} />
      )}
      {!viewOnly && (
        <div class={`prompt ${current ? 'input' : ''} ${acts ? '' : 'hidden'}`}>
          {browsing.value && p?.prompt && (
            <HistorySearch
              entries={p.model.entries()} onClose={(chosen) => {
                browsing.value = false
                if (chosen !== undefined) p.prompt?.replace(chosen)
                p.prompt?.focus()
              }}
            />
          )}
          <CompletionList state={list} onChoose={(item) => p?.prompt && choose(p.prompt, list, item)} />
          <span class="sign" aria-hidden="true">{current ? '›' : '❯'}</span>
          <div class="line" ref={line} dir="auto" />
        </div>
      )}
      {acts && p?.prompt && <KeyRow prompt={p.prompt} />}
      {panel.value && p && (
        <RunPanel
          model={p.model} rest={rest} id={id} acts={acts}
          onClose={() => (panel.value = false)} onReveal={() => wide.matches || (panel.value = false)} refresh={refresh}
        />
      )}
    </div>
  )
}

function makePrompt(parent: HTMLElement, model: Model, view: View, list: Signal<CompletionState>, browsing: Signal<boolean>): Prompt {
  const close = () => (list.value = completionState)
  let asked = 0
  const prompt: Prompt = new Prompt(parent, {
    enter(text) {
      if (model.current.peek()) return model.input(text + '\n', () => prompt.giveBack(text))
      if (text.trim() === '') return true
      model.run(text, (code) => prompt.giveBack(code))
      return true
    },
    queue(text) {
      if (text.trim() === '') return false
      model.run(text, (code) => prompt.giveBack(code))
      return true
    },
    takesInput: () => model.current.peek() !== undefined,
    interrupt() {
      if (model.current.peek()) model.interrupt()
      else prompt.clear()
    },
    endInput: () => model.endInput(),
    complete(text, head) {
      if (model.current.peek()) {
        prompt.insert('\t') // input of a run: a tab is a tab
        return
      }
      const turn = ++asked
      model.complete(text, toPoint(text, head)).then(
        (c) => {
          // What has been typed since makes the answer a stale one.
          if (turn !== asked || prompt.text !== text) return
          if (c.line !== text) prompt.replace(c.line, fromPoint(c.line, c.point))
          if (c.items.length === 0) model.note.value = 'Nothing completes this.'
          list.value = c.items.length > 1 ? offer(c, text) : completionState
        },
        (e: unknown) => (model.note.value = message(e)),
      )
    },
    search: () => (browsing.value = true),
    entries: () => model.entries(),
    listKey(key) {
      const { items, index } = list.peek()
      if (items.length === 0) return false
      const step = { up: -1, down: 1, tab: 1 }[key as string]
      if (key === 'escape') close()
      else if (key === 'enter') {
        if (index < 0) {
          close()
          return false
        }
        choose(prompt, list, items[index] ?? '')
      } else if (step) {
        const next = index < 0 && step < 0 ? items.length - 1 : (index + step + items.length) % items.length
        list.value = { ...list.peek(), index: next }
      }
      return true
    },
    changed() {
      asked++
      if (list.peek().items.length > 0) queueMicrotask(() => prompt.text !== list.peek().line && close())
    },
    clearScreen: () => view.term.clear(),
  })
  return prompt
}

/** Puts a candidate in the place that it was offered for. */
function choose(prompt: Prompt, list: Signal<CompletionState>, item: string): void {
  const { asked, start, end } = list.peek()
  const points = [...asked]
  const before = points.slice(0, start).join('') + item
  batch(() => {
    list.value = completionState
    prompt.replace(before + points.slice(end).join(''), before.length)
  })
  prompt.focus()
}

/** Keys that reach the terminal: it only shows, so they are for the prompt or for reading. */
function wireKeys(view: View, model: Model, prompt: Prompt | undefined, searching: Signal<boolean>): void {
  view.term.attachCustomKeyEventHandler((e) => {
    if (e.type !== 'keydown') return false
    const key = e.key.toLowerCase()
    if (e.ctrlKey && !e.altKey && !e.metaKey) {
      if (key === 'c' && !view.term.hasSelection()) model.interrupt()
      else if (key === 'd') model.endInput()
      else if (key === 'f') {
        e.preventDefault()
        searching.value = true
      }
      return false
    }
    if (e.metaKey || e.altKey) return false
    const page = { pageup: -1, pagedown: 1 }[key]
    if (page) view.term.scrollPages(page)
    else if (key === 'home') view.term.scrollToTop()
    else if (key === 'end') view.term.scrollToBottom()
    else if (prompt && (e.key.length === 1 || key === 'enter' || key === 'backspace' || key.startsWith('arrow'))) prompt.focus()
    return false
  })
}

/** The state of the connection, never in doubt. */
function ConnectionPill({ connection, retry }: { connection: Connection; retry: () => void }) {
  const now = useSignal(Date.now())
  const waiting = connection.state === 'waiting'
  useEffect(() => {
    if (!waiting) return
    const timer = setInterval(() => (now.value = Date.now()), 250)
    return () => clearInterval(timer)
  }, [waiting])
  const left = Math.max(0, Math.ceil((connection.retryAt - now.value) / 1000))
  const words = {
    connecting: 'connecting…', open: 'live', closed: 'ended',
    waiting: left > 0 ? `offline, next try in ${left} s` : 'offline, trying…',
  }[connection.state]
  return (
    <span class={`pill ${connection.state}`} role="status" data-testid="connection" data-state={connection.state}>
      <i aria-hidden="true" />{words}
      {waiting && <button type="button" class="link" onClick={retry}>now</button>}
    </span>
  )
}

const tick = signal(Date.now())
setInterval(() => (tick.value = Date.now()), 1000)

/** What is on, and what can be done about it. */
function Status({ model, run, acts }: { model: Model; run: Run | undefined; acts: boolean }) {
  const queued = model.queued.value
  const note = model.note.value
  if (!run && !note && queued === 0) return <p class="status idle" role="status" data-testid="status" />
  return (
    <p class={`status ${run ? 'running' : 'idle'}`} role="status" data-testid="status">
      {run && <span class="spinner" aria-hidden="true" />}
      {run && <span class="running-code"><code><bdi>{firstLine(run.code).line}</bdi></code> {tick.value - run.started_at >= 1000 && duration(Math.floor((tick.value - run.started_at) / 1000) * 1000)}</span>}
      {queued > 0 && <span>{queued} waiting</span>}
      {note && <span class="note" data-testid="note">{note}</span>}
      <span class="spring" />
      {run && acts && (
        <>
          <button type="button" onClick={() => model.interrupt()} data-testid="interrupt">Interrupt <kbd>⌃C</kbd></button>
          <button type="button" onClick={() => model.endInput()} data-testid="eof">End input <kbd>⌃D</kbd></button>
        </>
      )}
    </p>
  )
}

