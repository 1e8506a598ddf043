import { render } from 'preact'
import { App } from './app'
import { grantStyles } from './nonce'
import './style.css'

grantStyles()
const root = document.getElementById('app')
if (root) render(<App />, root)
