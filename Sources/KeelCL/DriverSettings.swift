import Foundation
import Synchronization

/// What drivers are asked to do otherwise than by themselves, in variables that the user has not set.
public enum DriverSettings {
  private static let names = Mutex<Set<String>>([])

  /// Names of the variables that this process has set in its environment, for drivers that are set up in it. A child
  /// should not inherit them as if the user had set them.
  public static var variables: Set<String> { names.withLock { $0 } }

  /// Sets the variables. To be called before OpenCL is.
  static func apply() {
    let process = ProcessInfo.processInfo
    let settings = settings(
      environment: process.environment, allowedCores: allowedCores, onlineCores: onlineCores, hasSiblings: hasSiblings,
      coreCount: process.processorCount)
    for (name, value) in settings { setenv(name, value, 0) }
    names.withLock { $0.formUnion(settings.keys) }
  }

  /// The variables and their values.
  ///
  /// - Parameters:
  ///   - environment: of the process. What stands in it is not set again.
  ///   - allowedCores: those that the process may use, as Linux lists them: `0-3,6`; nil where nobody says.
  ///   - onlineCores: those that are on, the same.
  ///   - hasSiblings: whether cores share what computes.
  ///   - coreCount: how many the machine has.
  static func settings(
    environment: [String: String], allowedCores: String?, onlineCores: String?, hasSiblings: Bool, coreCount: Int
  ) -> [String: String] {
    // PoCL would compile each kernel twice: for a program's binary one that takes any launch, at the first launch another
    // for its local size and offset. The one of the binary is as fast where a work-item is a loop of its own.
    var settings = ["POCL_WORK_GROUP_SPECIALIZATION": "0"]
    // A thread keeps to a core. Linux wakes a thread on the core where it was or where its waker is, and two threads of
    // PoCL's that have come to be on one stay there for many steps, each half as fast. PoCL gives thread i the core i, of
    // 1024, and aborts where it may not: so only where all cores are there, and a thread for each. With siblings, two
    // threads of a few might have to share what computes, so there the system goes on choosing.
    let all = "0-\(coreCount - 1)"
    let hasThreadForEach = threadCounts.allSatisfy { environment[$0] == nil || environment[$0] == "\(coreCount)" }
    if (2...1024).contains(coreCount), allowedCores == all, onlineCores == all, !hasSiblings, hasThreadForEach {
      settings["POCL_AFFINITY"] = "1"
    }
    return settings.filter { environment[$0.key] == nil }
  }

  /// Variables that change the number of PoCL's threads, in one of its versions or another.
  private static let threadCounts = [
    "POCL_MAX_PTHREAD_COUNT", "POCL_PTHREAD_MIN_THREADS", "POCL_CPU_MAX_CU_COUNT", "POCL_CPU_MIN_CU_COUNT",
    "POCL_MAX_COMPUTE_UNITS",
  ]

  private static var allowedCores: String? {
    let title = "Cpus_allowed_list:"
    let line = text("/proc/self/status")?.split(separator: "\n").first { $0.hasPrefix(title) }
    return line.map { $0.dropFirst(title.count).trimmingCharacters(in: .whitespaces) }
  }

  private static var onlineCores: String? { text("/sys/devices/system/cpu/online") }

  private static var hasSiblings: Bool { text("/sys/devices/system/cpu/smt/active").map { $0 != "0" } ?? false }

  private static func text(_ file: String) -> String? {
    (try? String(contentsOfFile: file, encoding: .utf8))?.trimmingCharacters(in: .whitespacesAndNewlines)
  }
}
