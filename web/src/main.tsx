import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { App } from './app';
import { watchDevices } from './phone/devices';
import { begin } from './session';
import './style.css';

watchDevices();
void begin();
const root = document.getElementById('page');
if (root) createRoot(root).render(<StrictMode><App /></StrictMode>);
