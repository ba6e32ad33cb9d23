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

      Errors are in epsilons of the precision: the difference of two neighbouring numbers at 1. A result's error is taken \
      relative to the terms that it is made of, and its bound counts the roundings between these and the result, so it \
      holds for any seed. A line shows the result of a variant that came nearest to its bound. Each failure comes with the \
      command that shows it again. The exit code is 1 if there is one.

      The same bits come out of every run on a device, whatever number of threads it has; compare two with

        diff <(POCL_MAX_PTHREAD_COUNT=1 keel check --digests) <(POCL_MAX_PTHREAD_COUNT=2 keel check --digests)

      Compiling takes longest where the caches are empty, and one core. Several processes share it: --share 1/2 and 2/2.
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

  @Option(help: ArgumentHelp("Of the random inputs.", valueName: "n"))
  var seed = KernelCase.testSeed

  @Option(
    name: .customLong("repeat"), parsing: .unconditional,
    help: ArgumentHelp("How many more runs must give the bits of the first.", valueName: "n"))
  var repeats = 1

  @Option(help: ArgumentHelp("Only a share of the variants; all shares together have each once.", valueName: "n/of"))
  var share: CheckPlan.Share?

  @OptionGroup var deviceOptions: DeviceOptions

  @Option(
    help: ArgumentHelp(
      "Run the variants for cpu or gpu, whatever the device is.",
      discussion: "They are right on any device, if slow: a simulator shows the errors of either.", valueName: "kind"))
  var kind: Kind?

  enum Kind: String, ExpressibleByArgument { case cpu, gpu }

  @Flag(help: "Name each run on standard error before it begins: what a crash was in.")
  var verbose = false

  @Flag(help: "Print one JSON object on standard output, everything else on standard error.")
  var json = false

  @Flag(help: "Print a hash of each variant's results on standard output, everything else on standard error.")
  var digests = false

  func validate() throws {
    if json, digests { throw ValidationError("--digests is not for --json, whose object has them.") }
    try expect((1...1000).contains(repeats), "--repeat", "1 to 1000", got: repeats)
    _ = try plan()
  }

  private func plan() throws -> CheckPlan {
    let families = kernels.map { $0.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) } }
    do {
      return try CheckPlan(
        families: families, variant: variant, caseText: caseText, seed: seed, isQuick: quick, share: share)
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
    let console = Console(json: json || digests)
    let plan = try plan()
    let device = try deviceOptions.select()
    var profile = DeviceProfile(device)
    if let kind { profile.isCPU = kind == .cpu }
    let context = try ComputeContext(device, profile: profile)
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
    console.line("digest    \(report.digest)")
    console.line("time      \(Text.seconds(seconds)), \(context.programs.compiledCount) programs compiled")
    if json {
      try console.json(CheckSummary(device, report, failures, seed: seed, repeats: repeats, seconds: seconds))
    }
    if digests {
      for summary in report.variants where summary.runs > 0 {
        console.result("\(summary.family) \(summary.variant) \(summary.digest)")
      }
    }
    guard report.runs > 0 || !failures.isEmpty || share != nil else {
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
    if let kind { words += ["--kind", kind.rawValue] }
    if let name = deviceOptions.device { words += ["--device", "'\(name)'"] }
    return words.joined(separator: " ")
  }
}

extension CheckPlan.Share: ExpressibleByArgument {
  /// As `1/2`.
  public init?(argument: String) {
    let numbers = argument.split(separator: "/", omittingEmptySubsequences: false).map { Int($0) }
    guard numbers.count == 2, let number = numbers[0], let count = numbers[1] else { return nil }
    self.init(number, of: count)
  }
}
