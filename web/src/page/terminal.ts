// The terminal that a session is shown in.

import { ClipboardAddon } from '@xterm/addon-clipboard'
import { FitAddon } from '@xterm/addon-fit'
import { SearchAddon } from '@xterm/addon-search'
import { UnicodeGraphemesAddon } from '@xterm/addon-unicode-graphemes'
import { WebLinksAddon } from '@xterm/addon-web-links'
import { WebglAddon } from '@xterm/addon-webgl'
import { Terminal } from '@xterm/xterm'
import type { ITheme } from '@xterm/xterm'
import '@xterm/xterm/css/xterm.css'

// Lines that are kept for scrolling back. A phone has less room.
export const scrollback = matchMedia('(max-width: 700px)').matches ? 20_000 : 150_000

const light: ITheme = {
  background: '#fdfdfc', foreground: '#24292f', cursor: '#fdfdfc', selectionBackground: '#b6d7f5',
  black: '#24292f', red: '#b42318', green: '#1a7f37', yellow: '#8a5a00', blue: '#0957c3', magenta: '#8250df', cyan: '#0f766e', white: '#6e7781',
  brightBlack: '#57606a', brightRed: '#d1242f', brightGreen: '#1f883d', brightYellow: '#9a6700', brightBlue: '#218bff', brightMagenta: '#a475f9', brightCyan: '#3192aa', brightWhite: '#8c959f',
}

const dark: ITheme = {
  background: '#0f1419', foreground: '#d7dde4', cursor: '#0f1419', selectionBackground: '#2f4f75',
  black: '#1c2128', red: '#ff7b72', green: '#56d364', yellow: '#e3b341', blue: '#6cb6ff', magenta: '#d2a8ff', cyan: '#5eead4', white: '#b1bac4',
  brightBlack: '#768390', brightRed: '#ffa198', brightGreen: '#7ee787', brightYellow: '#f2cc60', brightBlue: '#96d0ff', brightMagenta: '#e2c5ff', brightCyan: '#99f6e4', brightWhite: '#f0f6fc',
}

export interface Look {
  dark: boolean
  fontSize: number
  screenReader: boolean
}

export interface Found {
  index: number // from 0; -1 where too many were found to count
  count: number
}

/** A terminal that only shows. What is typed goes to the prompt. */
export class View {
  readonly term: Terminal
  private readonly fitting = new FitAddon()
  private readonly search = new SearchAddon({ highlightLimit: 2000 })
  private readonly resizing: ResizeObserver

  /**
   * Opens in an element, which must be in the document. copied is told when a program has
   * put something on the clipboard.
   */
  constructor(element: HTMLElement, look: Look, copied: (characters: number) => void, found: (f: Found) => void) {
    this.term = new Terminal({
      allowProposedApi: true,
      convertEol: true, // pipes carry bare newlines
      disableStdin: true,
      cursorInactiveStyle: 'none',
      cursorStyle: 'bar',
      fontFamily: 'ui-monospace, "JetBrains Mono", "Cascadia Mono", "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace',
      scrollback,
      scrollOnUserInput: false,
      minimumContrastRatio: 4.5,
      macOptionClickForcesSelection: true,
      linkHandler: { activate: (_, uri) => openLink(uri), allowNonHttpProtocols: false },
    })
    // On another screen output would not stay on record, and its end would put the cursor
    // where it was before.
    for (const final of ['h', 'l']) {
      this.term.parser.registerCsiHandler({ prefix: '?', final }, (params) => params.some((p) => p === 47 || p === 1047 || p === 1049))
    }
    this.term.open(element)
    this.term.loadAddon(new UnicodeGraphemesAddon())
    this.term.loadAddon(this.fitting)
    this.term.loadAddon(this.search)
    this.term.loadAddon(new WebLinksAddon((_, uri) => openLink(uri)))
    this.term.loadAddon(new ClipboardAddon(undefined, {
      // Output may put something on the clipboard, as in other terminals, but not look at it.
      readText: () => '',
      writeText: async (_, text) => {
        await navigator.clipboard?.writeText(text)
        copied(text.length)
      },
    }))
    this.search.onDidChangeResults((r) => found({ index: r.resultIndex, count: r.resultCount }))
    this.draw()
    this.look(look)
    this.resizing = new ResizeObserver(() => this.fit())
    this.resizing.observe(element)
    this.fit()
  }

  look({ dark: isDark, fontSize, screenReader }: Look): void {
    this.term.options.theme = isDark ? dark : light
    this.term.options.fontSize = fontSize
    this.term.options.screenReaderMode = screenReader
    this.fit()
  }

  /** Whether there are as many lines as are kept. */
  get full(): boolean {
    return this.term.buffer.normal.length >= scrollback + this.term.rows
  }

  /** Looks for text from where the last find was; backward is up. */
  find(text: string, backward: boolean, fromHere = false): void {
    const options = {
      incremental: fromHere,
      decorations: { matchOverviewRuler: '#e3b341', activeMatchColorOverviewRuler: '#ff7b72', matchBackground: '#e3b341', activeMatchBackground: '#ff7b72' },
    }
    if (text === '') this.search.clearDecorations()
    else if (backward) this.search.findPrevious(text, options)
    else this.search.findNext(text, { ...options, incremental: fromHere })
  }

  stopFinding(): void {
    this.search.clearDecorations()
    this.term.clearSelection()
  }

  dispose(): void {
    this.resizing.disconnect()
    this.term.dispose()
  }

  private fit(): void {
    const size = this.fitting.proposeDimensions()
    if (size && size.cols > 1 && size.rows > 0) this.fitting.fit()
  }

  /** Draws with WebGL where there is a real one, else with elements. */
  private draw(): void {
    try {
      const webgl = new WebglAddon()
      webgl.onContextLoss(() => webgl.dispose())
      this.term.loadAddon(webgl)
    } catch {
      // The terminal's own renderer needs nothing.
    }
  }
}

function openLink(uri: string): void {
  if (/^https?:\/\//i.test(uri)) window.open(uri, '_blank', 'noopener,noreferrer')
}
