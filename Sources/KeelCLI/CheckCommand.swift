import ArgumentParser
import Foundation
import Keel
import KeelCheck

struct CheckCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check", abstract: "Checks whether the device, with its driver, computes what it should.",
    discussion: """
      Every kernel runs on small problems and is held against a reference in double precision: a case with a variant of \
      its family is a run. Memory is NaN before a run and fenced after it, inputs must not change, and other runs must \
      give the same bits.

      Errors are in units of the precision's epsilon relative to the case's scale, such as the largest result or the \
      result itself. A line shows the result of a variant that came nearest to its bound. Each failure comes with the \
      command that shows it again. The exit code is 1 if there is one.
      """)

  @Flag(help: "Only a few cases of each variant, the same ones every time.")
  var quick = false

  @Option(help: ArgumentHelp("Families of kernels, with commas between them.", valueName: "families"))
  var kernels: String?

  @Option(help: ArgumentHelp("One variant of the families that have it.", valueName: "name"))
  var variant: String?

  @Option(
    name: .customLong("case"),
    help: ArgumentHelp("Cases with this text in their names; x stands for × too.", valueName: "text"))
  var caseText: String?

  @Option(
    help: ArgumentHelp(
      "Of the random inputs.", discussion: "Bounds are twice as wide with other inputs than the tests have.",
      valueName: "n"))
  var seed = KernelCase.testSeed

  @Option(
    name: .customLong("repeat"), parsing: .unconditional,
    help: ArgumentHelp("How many more runs must give the bits of the first.", valueName: "n"))
  var repeats = 1

  @OptionGroup var deviceOptions: DeviceOptions

  @Flag(help: "Name each run on standard error before it begins: what a crash was in.")
  var verbose = false

  @Flag(help: "Print one JSON object on standard output, everything else on standard error.")
  var json = false

  func validate() throws {
    try expect((1...1000).contains(repeats), "--repeat", "1 to 1000", got: repeats)
    _ = try plan()
  }

  private func plan() throws -> CheckPlan {
    let families = kernels.map { $0.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) } }
    do {
      return try CheckPlan(families: families, variant: variant, caseText: caseText, seed: seed, isQuick: quick)
    } catch {
      switch error {
      case .family(let name, let known): throw Self.unknown("--kernels", "families", known, name)
      case .variant(let name, let known): throw Self.unknown("--variant", "variants", known, name)
      case .caseText(let text, let names):
        throw ValidationError(
          "--case expects a part of the name of one of \(names.count) cases, such as \"\(names.first ?? "")\", "
            + "got \"\(text)\".")
      }
    }
  }

  private static func unknown(_ option: String, _ what: String, _ known: [String], _ name: String) -> ValidationError {
    ValidationError("\(option) expects \(what) out of \(known.joined(separator: ", ")), got \"\(name)\".")
  }

  func run() async throws {
    let console = Console(json: json)
    let plan = try plan()
    let device = try deviceOptions.select()
    let context = try ComputeContext(device)
    let start = Date()
    console.line("device    \(device.name)")
    console.line("driver    \(device.platform.name), \(device.platform.version), \(device.driverVersion)")
    console.line("inputs    seed \(seed)\n")
    let columns = CheckColumns(plan)
    console.line(columns.header)

    let report = try CheckRunner(context, repeats: repeats).check(plan) { event in
      if console.isClosed { throw ExitCode(Interruption.closedOutputExitCode) }
      switch event {
      case .begins(let kernelCase, let variant, let done):
        if verbose { console.note("\(kernelCase.family) \(variant): \(kernelCase.name)") }
        console.progress { width in
          ProgressBar.render(
            "\(kernelCase.family) \(variant)", done: done, total: plan.caseCount, width: width,
            elapsed: Date().timeIntervalSince(start))
        }
      case .ends: break
      case .family(let summaries): for summary in summaries { console.line(columns.line(summary)) }
      }
    }

    let failures = report.failures.map { CheckFailure($0, reproduce: reproduction(of: $0)) }
    for failure in failures { console.line("\n" + failure.text) }
    if report.skipped > 0 {
      console.line("\nskipped   \(report.skipped) cases in double precision: the device has none")
    }
    let seconds = Date().timeIntervalSince(start)
    console.line("\nchecked   \(Text.count(report.cases)) cases in \(Text.count(report.runs)) runs")
    console.line("failed    \(failures.count)")
    console.line("time      \(Text.seconds(seconds)), \(context.programs.compiledCount) programs compiled")
    if json {
      try console.json(CheckSummary(device, report, failures, seed: seed, repeats: repeats, seconds: seconds))
    }
    guard report.runs > 0 || !failures.isEmpty else {
      throw CommandError("check", "expected cases to run, got none: \(device.name) takes none of those chosen")
    }
    if !failures.isEmpty { throw ExitCode.failure }
  }

  /// The command that runs one case with one variant again.
  private func reproduction(of result: CheckResult) -> String {
    var words = ["keel check --kernels", result.family]
    if !result.variant.isEmpty { words += ["--variant", result.variant] }
    words += ["--case", "\"\(result.name)\"", "--seed", "\(result.seed)"]
    if repeats != 1 { words += ["--repeat", "\(repeats)"] }
    if let name = deviceOptions.device { words += ["--device", "'\(name)'"] }
    return words.joined(separator: " ")
  }
}
