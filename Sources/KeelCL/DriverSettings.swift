import Foundation

/// What drivers are asked to do otherwise than by themselves, in variables that the user has not set.
enum DriverSettings {
  /// Sets the variables. To be called before OpenCL is.
  static func apply() {
    let process = ProcessInfo.processInfo
    for (name, value) in settings(
      environment: process.environment, allowedCores: allowedCores, coreCount: process.processorCount)
    {
      setenv(name, value, 0)
    }
  }

  /// The variables and their values.
  ///
  /// - Parameters:
  ///   - environment: of the process. What stands in it is not set again.
  ///   - allowedCores: those that the process may use, as Linux lists them: `0-3,6`; nil where nobody says.
  ///   - coreCount: how many the machine has.
  static func settings(environment: [String: String], allowedCores: String?, coreCount: Int) -> [String: String] {
    // PoCL would compile each kernel twice: for a program's binary one that takes any launch, at the first launch another
    // for its local size and offset. The one of the binary is as fast where a work-item is a loop of its own.
    var settings = ["POCL_WORK_GROUP_SPECIALIZATION": "0"]
    // A thread keeps to a core. Linux wakes a thread on the core where it was or where its waker is, and two threads of
    // PoCL's that have come to be on one stay there for many steps, each half as fast. PoCL gives thread i the core i,
    // and aborts where it may not: so only where all cores are allowed, and there is a thread for each.
    let threads = environment["POCL_MAX_PTHREAD_COUNT"]
    if coreCount > 1, allowedCores == "0-\(coreCount - 1)", threads == nil || threads == "\(coreCount)" {
      settings["POCL_AFFINITY"] = "1"
    }
    return settings.filter { environment[$0.key] == nil }
  }

  private static var allowedCores: String? {
    let title = "Cpus_allowed_list:"
    let status = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)
    return status?.split(separator: "\n").first { $0.hasPrefix(title) }?.dropFirst(title.count)
      .trimmingCharacters(in: .whitespaces)
  }
}
