// The package as it would be published, and a project that has it installed.

import { execFile, spawn } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)
const here = (path: string) => new URL(path, import.meta.url).pathname
const web = here('../../')

/** A directory with what `npm pack` makes installed in it, and the programs of test/project. */
export class Project {
  private constructor(readonly dir: string, readonly contents: string[]) {}

  /** others are packages of the page's that it has too. */
  static async make(...others: string[]): Promise<Project> {
    const dir = mkdtempSync(join(tmpdir(), 'tandem-client-'))
    const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', dir, here('..')], { cwd: dir })
    const [packed] = JSON.parse(stdout.slice(stdout.indexOf('['))) as [{ filename: string; files: { path: string }[] }]
    writeFileSync(join(dir, 'package.json'), JSON.stringify({ private: true, type: 'module' }))
    const packages = [`./${packed.filename}`, ...others.map((name) => join(web, 'node_modules', name))]
    await run('npm', ['install', '--offline', '--no-audit', '--no-fund', '--install-links', ...packages], { cwd: dir })
    cpSync(here('project'), dir, { recursive: true })
    return new Project(dir, packed.files.map((f) => f.path).sort())
  }

  /** The files of the installed package, and what they hold is served by their name. */
  get dist(): string {
    return join(this.dir, 'node_modules/tandem-client/dist')
  }

  /**
   * Runs a program of the project until it ends by itself, and returns what it printed. Lines
   * that begin with "!" are for told.
   */
  node(args: string[], env: Record<string, string> = {}, told: (line: string) => void = () => {}): Promise<string> {
    const child = spawn(process.execPath, args, { cwd: this.dir, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
    let printed = ''
    let line = ''
    child.stdout.setEncoding('utf8').on('data', (s: string) => {
      const parts = (line + s).split('\n')
      line = parts.pop() ?? ''
      for (const part of parts) {
        if (part.startsWith('!')) told(part.slice(1))
        else printed += part + '\n'
      }
    })
    let errors = ''
    child.stderr.setEncoding('utf8').on('data', (s: string) => (errors += s))
    return new Promise((resolve, reject) => {
      child.on('close', (code, signal) => (code === 0 ? resolve(printed) : reject(new Error(`${args.join(' ')} ended with ${code ?? signal}:\n${printed}${line}\n${errors}`))))
    })
  }

  /** Asks the compiler what it makes of a program of the project. */
  async typecheck(config: string): Promise<string> {
    return run(process.execPath, [join(web, 'node_modules/typescript/bin/tsc'), '--project', join(this.dir, config)]).then(
      () => '',
      (e: { stdout: string }) => e.stdout,
    )
  }

  remove(): void {
    rmSync(this.dir, { recursive: true, force: true })
  }
}

/** The scenarios of test/project. */
export const scenarios = readdirSync(here('project/scenarios')).map((f) => f.replace(/\.mjs$/, ''))
