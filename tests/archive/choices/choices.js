// Answers questions about versions with npm's own libraries: a JSON document on stdin, one on stdout.
//
//   choices.js versions    [[range, version]]: whether the version is in it, or null where the range is none
//   choices.js order       [[version, version]]: -1, 0 or 1, or null where one is none
//   choices.js pick        [[document, wanted, node]]: the version that npm picks, or null
const semver = require('semver')
const pick = require('npm-pick-manifest')

const each = {
  versions: ([range, version]) =>
    semver.validRange(range, true) === null || semver.parse(version, true) === null
      ? null
      : semver.satisfies(version, range, true),
  order: ([one, other]) =>
    semver.parse(one, true) && semver.parse(other, true) ? semver.compare(one, other, true) : null,
  pick: ([document, wanted, node]) => {
    try {
      return pick(document, wanted, { nodeVersion: node }).version
    } catch {
      return null
    }
  },
}

const question = JSON.parse(require('fs').readFileSync(0, 'utf8'))
process.stdout.write(JSON.stringify(question.map(each[process.argv[2]])))
