import { useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import type { Rest } from '../../client/src'
import { asker, duration, ending, firstLine, plain, succeeded } from './format'
import { Icon, IconButton } from './icons'
import { message } from './model'
import type { Model, Run } from './model'
import { Dialog } from './dialog'

interface PanelProps {
  model: Model
  rest: Rest
  id: string
  acts: boolean
  onClose: () => void
  onReveal: () => void
  refresh: () => void
}

/** The session's runs, newest first. */
export function RunPanel({ model, rest, id, acts, onClose, onReveal }: PanelProps) {
  const shown = useSignal<Run | undefined>(undefined)
  const note = useSignal('')
  const runs = model.runs.value
  const copy = async (run: Run) => {
    try {
      const { text, truncated } = await wholeOutput(rest, id, run.run_id)
      await navigator.clipboard.writeText(text)
      note.value = truncated ? 'Copied what is still kept of it.' : 'Copied.'
    } catch (e) {
      note.value = message(e)
    }
  }
  return (
    <aside class="runs" aria-label="Runs" data-testid="runs">
      <header>
        <h2>Runs</h2>
        {note.value && <span class="note" role="status">{note.value}</span>}
        <IconButton icon="close" label="Close the list of runs" onClick={onClose} />
      </header>
      <ol>
        {runs.map((run) => (
          <li key={run.run_id} class={`run ${state(run)}`} data-testid="run" data-run={run.run_id}>
            <button
              type="button" class="run-open" title="Go to it in the output"
              onClick={() => {
                if (model.reveal(run.run_id)) onReveal()
                else shown.value = run
              }}
            >
              <code><bdi>{firstLine(run.code).line || '…'}</bdi>{firstLine(run.code).more > 0 && <small> +{firstLine(run.code).more} lines</small>}</code>
              <span class="run-facts">
                <b>{words(run)}</b>
                {run.state === 'finished' && run.number > 0 && run.reason !== 'lost' && <span>{duration(run.duration_ms)}</span>}
                <span>{run.number > 0 ? `#${run.number} · ` : ''}{asker(run.by, run.mine)}</span>
              </span>
            </button>
            <span class="run-actions">
              <IconButton icon="output" label="Code and output" onClick={() => (shown.value = run)} testid="run-details" />
              <IconButton icon="copy" label="Copy output" onClick={() => void copy(run)} testid="run-copy" />
              {acts && run.state === 'finished' && (
                <IconButton icon="again" label="Run again" disabled={model.whole(run) === undefined} onClick={() => model.run(model.whole(run) ?? '')} testid="run-again" />
              )}
              {acts && run.state !== 'finished' && (
                <IconButton icon="stop" label={run.state === 'queued' ? 'Take out of the queue' : 'End it'} onClick={() => model.cancel(run.run_id)} testid="run-cancel" />
              )}
            </span>
          </li>
        ))}
        {runs.length === 0 && <li class="empty">Nothing has run yet.</li>}
      </ol>
      {shown.value && <Details run={shown.value} rest={rest} id={id} onClose={() => (shown.value = undefined)} />}
    </aside>
  )
}

function state(run: Run): string {
  if (run.state !== 'finished') return run.state
  return succeeded(run) ? 'good' : run.reason === 'exited' ? 'bad' : 'ended-early'
}

function words(run: Run): string {
  return run.state === 'finished' ? ending(run) : run.state
}

// The most of a run's output that is copied or shown in one piece.
const mostOutput = 32 << 20

async function wholeOutput(rest: Rest, id: string, run_id: string): Promise<{ text: string; stderr: string; truncated: boolean }> {
  const out = await rest.output(id, run_id)
  const text = out.stdout + (out.stdout !== '' && !out.stdout.endsWith('\n') && out.stderr !== '' ? '\n' : '') + out.stderr
  return { text: text.slice(-mostOutput), stderr: out.stderr, truncated: out.truncated || text.length > mostOutput }
}

function Details({ run, rest, id, onClose }: { run: Run; rest: Rest; id: string; onClose: () => void }) {
  const output = useSignal('…')
  useEffect(() => {
    wholeOutput(rest, id, run.run_id).then(
      (o) => (output.value = (o.truncated ? '… the start is no longer kept …\n' : '') + (o.text || '(no output)')),
      (e: unknown) => (output.value = message(e)),
    )
  }, [])
  return (
    <Dialog title={run.number > 0 ? `Run ${run.number}: ${words(run)}` : words(run)} onClose={onClose} testid="run-dialog">
      <h3><Icon name="code" /> Code, asked for by {asker(run.by, run.mine)}</h3>
      <pre dir="auto">{plainLines(run.code)}{run.code_truncated && '\n… the rest is not shown'}</pre>
      <h3><Icon name="output" /> Output</h3>
      <pre class="output" dir="auto">{plainLines(output.value.slice(-200_000))}</pre>
      <div class="buttons"><button type="button" class="primary" onClick={onClose} autofocus>Close</button></div>
    </Dialog>
  )
}

/** Text as it is, without the sequences that color it in a terminal. */
function plainLines(text: string): string {
  return plain(text.replace(/\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))/g, '').replace(/\r+\n/g, '\n'))
}
