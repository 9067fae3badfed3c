import './styles/tokens.css';
import './styles/page.css';
import { mount } from 'svelte';
import App from './App.svelte';
import Embedded from './boards/Embedded.svelte';

const target = document.getElementById('app');
const framed = /^\/embed\/([a-z2-7]+)$/.exec(location.pathname);
if (target && framed) mount(Embedded, { target, props: { id: framed[1] ?? '', token: new URLSearchParams(location.search).get('token') ?? '' } });
else if (target) mount(App, { target });
