import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Browser, chromium, type LaunchOptions, type Page } from '@playwright/test';

/**
 * Tab is a page that can be hidden and frozen, in a browser of its own. Playwright makes every page
 * of its browser believe that it is visible, and Chromium freezes only hidden pages.
 */
export class Tab {
  readonly page: Page;
  readonly #browser: Browser;
  readonly #process: ChildProcess;
  readonly #profile: string;

  private constructor(page: Page, browser: Browser, process: ChildProcess, profile: string) {
    this.page = page;
    this.#browser = browser;
    this.#process = process;
    this.#profile = profile;
  }

  static async open({ executablePath, args = [] }: LaunchOptions): Promise<Tab> {
    const profile = mkdtempSync(join(tmpdir(), 'parlor-profile-'));
    // An empty page, because the start page still navigates when Playwright attaches to it, which may
    // then wait for ever.
    const options = ['--headless', '--remote-debugging-port=0', `--user-data-dir=${profile}`, ...args, 'about:blank'];
    const started = spawn(executablePath!, options, { stdio: ['ignore', 'ignore', 'pipe'] });
    const address = await new Promise<string>((resolve, reject) => {
      let output = '';
      started.stderr.on('data', (chunk: Buffer) => {
        output += chunk.toString();
        const listening = output.match(/DevTools listening on (ws:\S+)/);
        if (listening) resolve(listening[1]!);
      });
      started.once('exit', (code) => reject(new Error(`the browser exited with status ${code}:\n${output}`)));
      started.once('error', reject);
    });
    const browser = await chromium.connectOverCDP(address, { noDefaults: true });
    return new Tab(await browser.contexts()[0]!.newPage(), browser, started, profile);
  }

  /** Hides the page and stops its code, as Chromium does with tabs that were hidden for long. */
  async freeze(): Promise<void> {
    await (await this.page.context().newPage()).bringToFront();
    await this.page.waitForFunction(() => document.visibilityState === 'hidden');
    await this.#setLifecycle('frozen');
  }

  async unfreeze(): Promise<void> {
    await this.#setLifecycle('active');
    await this.page.bringToFront();
  }

  async close(): Promise<void> {
    const exited = once(this.#process, 'exit');
    const devtools = await this.#browser.newBrowserCDPSession();
    await devtools.send('Browser.close').catch(() => {}); // the reply may be lost with the connection
    await exited;
    rmSync(this.#profile, { recursive: true, force: true });
  }

  async #setLifecycle(state: 'frozen' | 'active'): Promise<void> {
    const devtools = await this.page.context().newCDPSession(this.page);
    await devtools.send('Page.setWebLifecycleState', { state });
    await devtools.detach();
  }
}
