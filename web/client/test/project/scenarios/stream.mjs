// Output is read as it comes, by several, and slowly.
import assert from 'node:assert/strict'

export default async ({ client, session }) => {
  // As it comes: the command goes on when its output was read.
  const run = session.run('for i in 1 2 3; do echo "number $i"; read -r _; done; echo err >&2', { stdin: true })
  let text = ''
  let answered = 0
  for await (const chunk of run) {
    assert.equal(chunk.text, Buffer.from(chunk.data).toString())
    if (chunk.channel === 'stderr') {
      assert.equal(chunk.text, 'err\n')
      continue
    }
    text += chunk.text
    if (text.split('\n').length - 1 > answered) {
      answered++
      await run.write('\n')
    }
  }
  assert.equal(text, 'number 1\nnumber 2\nnumber 3\n')

  // Again, by who comes late.
  let again = ''
  for await (const chunk of run) if (chunk.channel === 'stdout') again += chunk.text
  assert.equal(again, text)

  // A character that is cut comes whole.
  const cut = []
  for await (const chunk of session.run('printf "\\xc3"; sleep 0.2; printf "\\xa4\\xff"')) cut.push(chunk.text)
  assert.equal(cut.join(''), 'ä\ufffd')

  // More than the window and what is kept, by one that is slow at first: all of it, in order.
  let size = 0
  let next = 1
  let rest = ''
  const flood = session.run('seq 1 700000', { keep: 1_000 })
  for await (const chunk of flood) {
    if (size === 0) {
      await flood.started
      await new Promise((resolve) => setTimeout(resolve, 500))
      const { state } = await client.runInfo(session.id, flood.run_id)
      assert.equal(state, 'running', 'a slow reader holds the command back')
    }
    size += chunk.data.length
    const lines = (rest + chunk.text).split('\n')
    rest = lines.pop()
    for (const line of lines) assert.equal(line, String(next++))
  }
  assert.equal(next, 700_001)

  // One that leaves holds nothing up.
  const left = session.run('seq 1 700000')
  for await (const _ of left) break
  assert.equal((await left.finished).exit_code, 0)
}
