export { default } from '../../sdk/vitest.config.ts';
