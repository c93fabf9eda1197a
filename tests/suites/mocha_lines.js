// A reporter for mocha that writes a line of JSON as each test ends, so that the tests before one that hangs
// or ends the process are not lost. The file is named by the option "output".
'use strict';

const fs = require('fs');

class Lines {
  constructor(runner, options) {
    const output = options.reporterOption.output;
    const line = (test, outcome, error) => fs.appendFileSync(output, JSON.stringify({
      test: test.fullTitle(),
      outcome: outcome,
      seconds: (test.duration || 0) / 1000,
      detail: error ? String((error && error.stack) || error) : '',
    }) + '\n');
    runner.on('pass', (test) => line(test, 'passed'));
    runner.on('pending', (test) => line(test, 'skipped'));
    runner.on('fail', (test, error) => line(test, 'failed', error));
  }
}

module.exports = Lines;
