// Mounts the dashboard. It reads the public Kubernetes API and nothing else.
import './app.css';
import { mount } from 'svelte';
import App from './App.svelte';
import { show } from './theme';

// After an upgrade an old tab asks for a chunk that is gone: load the new page once.
addEventListener('vite:preloadError', () => location.reload());

show();
const target = document.getElementById('app');
if (target) mount(App, { target });
